#!/usr/bin/env bash
# Judges examples/images in an emulated Debian arm64 and on this machine, and compares the records.
# `make aarch64` calls it:  tools/aarch64.sh BIN BUNDLE FOLDER
#   BIN     the programs of the virtual environment in which glass-edge is installed
#   BUNDLE  the bundle that judges on both sides
#   FOLDER  what is built and judged goes there; a later run uses the Debian in it again
# SUITE is the Debian release, MIRROR where it comes from; debootstrap has its own choice.
set -euo pipefail

fail() { echo "make aarch64: $*" >&2; exit 1; }
say() { echo "make aarch64: $*"; }

[ "$(id -u)" = 0 ] || fail "only root can enter another Debian. Run: sudo make aarch64"
for program in debootstrap qemu-aarch64-static update-binfmts; do
    command -v "$program" > /dev/null || fail "there is no $program here. On Debian and Ubuntu run:" \
        "apt-get install debootstrap qemu-user-static binfmt-support"
done

# Everything is mounted in a namespace of its own, so nothing stays mounted, however this ends.
[ -n "${GLASS_OWN_MOUNTS:-}" ] || GLASS_OWN_MOUNTS=1 exec unshare --mount "$0" "$@"

bin=$1 bundle=$2 folder=$3 suite=${SUITE:-bookworm} processor=cortex-a76
root=$folder/$suite.root inner=/glass  # the dot keeps setuptools from looking for packages there
mkdir -p "$folder"

registered=/proc/sys/fs/binfmt_misc
mountpoint --quiet $registered || mount -t binfmt_misc binfmt_misc $registered ||
    fail "this kernel has no binfmt_misc, which hands programs of aarch64 to QEMU."
[ -e $registered/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64 ||
    fail "QEMU cannot be made the interpreter of programs of aarch64."

if [ ! -e "$folder/$suite.finished" ]; then
    say "fetching Debian $suite for arm64 (some minutes)"
    rm -rf --one-file-system "$root"
    debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv,ca-certificates \
        "$suite" "$root" ${MIRROR:+"$MIRROR"} > "$folder/$suite.log" 2>&1 ||
        fail "debootstrap made no Debian $suite: is there a network? See $folder/$suite.log"
    touch "$folder/$suite.finished"
fi
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"

# /proc/cpuinfo would show this machine's processors, and ONNX Runtime crashes on such a mixture.
features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop \
asimddp ssbs"
for ((number = 0; number < $(nproc --all); number++)); do
    printf '%s\t: %s\n' processor $number Features "$features" "CPU implementer" 0x41 \
        "CPU architecture" 8 "CPU variant" 0x4 "CPU part" 0xd0b "CPU revision" 1
    echo
done > "$folder/cpuinfo"
mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo"

# Debian's pip reaches its index as pip does here: by the same names, certificates and settings.
certificates=${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
for file in /etc/resolv.conf "$certificates"; do [ -r "$file" ] || fail "$file cannot be read."; done
cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
cp --remove-destination "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
settings=("QEMU_CPU=$processor" PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
for name in index-url extra-index-url trusted-host proxy timeout; do
    variable=PIP_$(tr a-z- A-Z_ <<< "$name")
    value=${!variable:-$("$bin/python" -m pip config get "global.$name" 2> /dev/null || true)}
    value=$(tr -s '[:space:]' '\n' <<< "$value" | sed '/^file:/d' | xargs)  # no folder of this machine
    [ -z "$value" ] || settings+=("$variable=$value")
done
for variable in {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY PIP_DEFAULT_TIMEOUT; do
    [ -z "${!variable:-}" ] || settings+=("$variable=${!variable}")
done
inside() {
    chroot "$root" /usr/bin/env --ignore-environment --chdir=$inner HOME=/root LANG=C.UTF-8 \
        PATH=/usr/bin:/bin "${settings[@]}" "$@"
}

say "installing glass-edge[cpu] in it, from wheels alone"
mkdir -p "$root$inner"
rm -rf build "$root$inner"/{*.whl,*.py,*.glass,examples}  # build/: what an older wheel left
"$bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$root$inner" . ||
    fail "the wheel of glass-edge cannot be built."
wheel=$(cd "$root$inner" && echo glass_edge-*.whl)
[ -x "$root$inner/venv/bin/pip" ] || inside python3 -m venv --clear venv
install=(venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all:)
for wanted in "./${wheel}[cpu]" "--force-reinstall --no-deps ./$wheel"; do  # new code, old number
    # shellcheck disable=SC2086  # several words
    inside "${install[@]}" $wanted ||
        fail "pip cannot install glass-edge[cpu] on aarch64: a wheel is missing, or the network."
done

mkdir "$root$inner/examples"
cp -a tools/judge.py "$bundle" "$root$inner"
cp -a examples/images "$root$inner/examples"

say "judging examples/images here"
"$bin/python" tools/judge.py "$bundle" examples/images "$folder/here" || fail "glass-run failed here."
say "judging examples/images on aarch64 (minutes)"
inside venv/bin/python judge.py "$(basename "$bundle")" examples/images aarch64 \
    --emulator "$(qemu-aarch64-static --version | head -n 1), $processor" ||
    fail "glass-run failed on aarch64."

"$bin/python" tools/compare_records.py "$folder/here" "$root$inner/aarch64" --command "make aarch64" \
    -o docs/reports/aarch64.json -o docs/reports/aarch64.md
