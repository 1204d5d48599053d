"""Whole collections: planned in shards, judged shard by shard, and put together."""
