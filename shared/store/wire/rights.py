"""The rights that Tailrace needs on a server: commands, keys and channels, as commands to try.

Pure. The functions' own commands are here too: a step runs with its caller's rights. Not here:
trying them (shared/store/server_check.py).
"""

from typing import Final

from shared.store.keys import ARQ, Keys

_PROBE: Final = "job_probe"
_PLAIN: Final = (
    *("PING", "ECHO x", "TIME", "INFO", "MULTI", "EXEC", "DISCARD"),
    *("FCALL x 0", "FUNCTION LIST", "FUNCTION LOAD x", "FUNCTION DELETE x", "SCAN 0"),
)
_WITH_KEY: Final = (
    *("EXISTS", "DEL", "GET", "GETRANGE 0 1", "MGET", "SET x", "SETRANGE 0 x", "PTTL", "PEXPIRE 1", "PEXPIREAT 1"),
    *("HGET x", "HGETALL", "HMGET x", "HEXISTS x", "HSET x x", "HSETNX x x", "HDEL x"),
    *("XADD * f x", "XRANGE - +", "XREVRANGE + -"),
    *("LPUSH x", "LTRIM 0 1", "BLPOP 0"),
    *("ZADD 0 x", "ZCARD", "ZCOUNT 0 1", "ZRANGE 0 1", "ZRANK x", "ZREM x", "ZREMRANGEBYLEX - +"),
    *("ZREMRANGEBYSCORE 0 1", "ZREVRANGE 0 1", "ZREVRANGEBYLEX + -", "ZSCORE x"),
)
_WITH_ARQ_KEY: Final = ("EXISTS", "DEL", "GET", "SET x", "PTTL", "PEXPIRE 1", "INCRBY 1", "EXPIRE 1", "SETEX 1 x")
_WITH_CHANNEL: Final = ("PUBLISH x", "SUBSCRIBE", "UNSUBSCRIBE")

Command = tuple[str, ...]


def needed_commands(keys: Keys) -> tuple[Command, ...]:
    """List commands that a user must be allowed to give; each stands for all of its kind."""
    arq = keys.arq
    return (
        *(tuple(each.split()) for each in _PLAIN),
        *(_on(keys.job(_PROBE).record, each) for each in _WITH_KEY),
        *(_on(prefix + _PROBE, each) for prefix in (arq.job, arq.in_progress, arq.retry) for each in _WITH_ARQ_KEY),
        _on(arq.abort, "ZREM x"),
        *(_on(keys.channel(_PROBE), each) for each in _WITH_CHANNEL),
        *(_on(keys.control, each) for each in _WITH_CHANNEL),
    )


def _on(name: str, command: str) -> Command:
    """Put a key or a channel behind the command's word."""
    word, *rest = command.split()
    return (word, name, *rest)


def acl_rules(keys: Keys) -> tuple[str, ...]:
    """List the rules of a user that has these rights and no others, as `ACL SETUSER` takes them."""
    words = sorted({_name_of(command) for command in needed_commands(keys)})
    patterns = (*_key_patterns(keys), f"&{keys.prefix}:*")
    return ("resetkeys", "resetchannels", "-@all", *patterns, *(f"+{word}" for word in words))


def _key_patterns(keys: Keys) -> tuple[str, ...]:
    own = f"~{keys.prefix}:*"
    return (own,) if keys.arq_prefixed else (own, f"~{ARQ}*")


def _name_of(command: Command) -> str:
    word = command[0].lower()
    return f"{word}|{command[1].lower()}" if word == "function" else word


def sentence_of_missing(missing: list[Command], keys: Keys) -> str:
    """Describe rights that are missing, so that a person can grant them."""
    shown = sorted({_shown(command) for command in missing})
    return (
        f"The user of this Redis may not {', '.join(shown)}; allow it these commands, with the keys "
        f"{' and '.join(_key_patterns(keys))} and the channels &{keys.prefix}:*."
    )


def _shown(command: Command) -> str:
    word, *rest = command
    subject = next((part for part in rest if ":" in part), "") if word != "FUNCTION" else rest[0]
    return f"{word} {_family(subject)}".rstrip()


def _family(name: str) -> str:
    """The pattern that a probed name stands for."""
    return name.replace(_PROBE, "*")
