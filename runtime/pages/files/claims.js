// What a file claims of its origin.

const STATES = {
  trusted: "The signature is valid, and its certificate leads to one on the trust list.",
  valid: "The signature is valid; the signer could be anyone.",
  invalid: "The file or the signature was changed, or breaks a rule of the specification.",
  remote: "They are stored at an address that the file names. That address was not contacted.",
  none: null,
  unread: "They could not be read.",
};
const SIGNED = ["trusted", "valid", "invalid", "remote"];

/** Whether a file says anything of its origin. */
function hasClaims(provenance) {
  if (!provenance) return false;
  return provenance.declared.length > 0 || SIGNED.includes(provenance.c2pa.state);
}

/** All texts of a file's claims. */
function claimedTexts(provenance) {
  if (!provenance) return [];
  const { declared, c2pa } = provenance;
  const texts = [c2pa.issuer, c2pa.generator, c2pa.source_type, ...c2pa.actions, ...c2pa.codes];
  if (hasClaims(provenance)) texts.push(`c2pa ${c2pa.state}`);
  for (const { where, value } of declared) texts.push(where, value);
  return texts.filter((text) => text !== null);
}

/** A file's claims in a short line; null if it was not asked. */
function claimsLine(provenance) {
  if (!provenance) return null;
  const { declared, c2pa } = provenance;
  const parts = [];
  if (SIGNED.includes(c2pa.state)) {
    const by = c2pa.generator || c2pa.issuer || c2pa.source_type;
    parts.push(`C2PA ${c2pa.state}${by ? `: ${by}` : ""}`);
  }
  if (declared.length > 0) parts.push(`claims ${declared[0].value} (${declared[0].where})`);
  if (declared.length > 1) parts.push(`${declared.length - 1} more`);
  if (parts.length > 0) return parts.join(" · ");
  return c2pa.state === "unread" ? "C2PA not readable" : "no claims";
}

/** The part of an image's details that says what its file claims. */
function claimsSection(provenance) {
  return element(
    "section",
    { class: "claims" },
    element("h3", {}, "What the file claims"),
    element(
      "p",
      { class: "quiet" },
      "Claims can be forged or stripped. They never change the verdict.",
    ),
    provenance
      ? claimsList(provenance)
      : element("p", {}, "The claims were not read: glass-run --provenance reads them."),
  );
}

function claimsList({ declared, c2pa, trust_list: trustList }) {
  const facts = [
    ["Content credentials (C2PA)", [c2pa.state, STATES[c2pa.state]].filter(Boolean).join(". ")],
    ["Signed by", c2pa.issuer],
    ["Generator", c2pa.generator],
    ["Source type", c2pa.source_type],
    ["Actions", c2pa.actions.join(", ") || null],
    ["Reason codes", c2pa.codes.join(", ") || null],
    ["Trust list", trustList],
    ...declared.map(({ where, value }) => [`${where} (unsigned)`, value]),
  ];
  if (declared.length === 0) facts.push(["Unsigned statements", "none"]);
  return factList(facts);
}
