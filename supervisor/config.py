"""Configuration: defaults, TOML file, environment and flags in rising order; all mistakes are reported at once.

One table holds each setting with its default, check and variable; each value has its source.
"""

from __future__ import annotations

import difflib
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ipc.certificates import KeyDirectory
from ipc.errors import ConfigError
from ipc.lines import LINES, Line
from ipc.remote import Network, is_loopback
from ipc.start_directory import absolute
from supervisor import setting_checks as checks
from supervisor.http_address import HttpAddress
from supervisor.network import auth_file, ca_file, dial_options, feed_network, proxy_url, source_address
from workers.backoff import BackoffPolicy
from workers.net.proxy import DIRECT, DialOptions
from workers.venues import VENUES
from workers.venues.venue import Venue


@dataclass(frozen=True, slots=True)
class _Key:
    default: Any
    check: checks.Check
    #: Environment variable; ``<V>`` is replaced by the venue's prefix.
    env: str | None = None
    #: True when messages must not show an invalid value: it may be a secret in the wrong place.
    is_hidden: bool = False
    #: True when an empty environment variable is a value; for others it is as good as none.
    can_be_empty: bool = False


#: Size of a configuration file.
_MAX_BYTES: Final = 1_000_000
#: Similarity (difflib's ratio) from which an unknown variable counts as a misspelt one.
_NEAR_MISS: Final = 0.9
_SUPERVISOR: Final[dict[str, _Key]] = {
    "venues": _Key(tuple(VENUES), checks.venues, "PARAPHINA_VENUES"),
    "markets": _Key(("BTC", "ETH"), checks.markets, "PARAPHINA_MARKETS"),
    "lines": _Key(1, checks.whole(1, len(LINES)), "PARAPHINA_LINES"),
    "limit_share": _Key(1.0, checks.part, "PARAPHINA_LIMIT_SHARE"),
    "run_dir": _Key(None, checks.absolute_path, "PARAPHINA_RUN_DIR"),
    "tick_ms": _Key(250, checks.whole(20, 10_000)),
    "first_restart": _Key("backoff", checks.one_of("backoff", "immediate")),
    "backoff_base_ms": _Key(1000, checks.whole(1, 60_000)),
    "backoff_cap_ms": _Key(30_000, checks.whole(1, 3_600_000)),
    "jitter": _Key(0.1, checks.share),
    "fixture_dir": _Key(None, checks.directory, "ROADMAP_B_FIXTURE_DIR"),
    "fixture_speed": _Key("recorded", checks.one_of("recorded", "max"), "PARAPHINA_FIXTURE_SPEED"),
    "blackbox_kb": _Key(1024, checks.whole(0, 1_048_576)),
    "blackbox_dir": _Key(None, checks.new_directory, "PARAPHINA_BLACKBOX_DIR"),
    "blackbox_keep": _Key(20, checks.whole(1, 10_000)),
    "log_level": _Key("info", checks.one_of("debug", "info", "warning", "error"), "PARAPHINA_LOG_LEVEL"),
}
_HEALTH: Final[dict[str, _Key]] = {
    "healthy_threshold_ms": _Key(60_000, checks.whole(0, 86_400_000), "PARAPHINA_WS_HEALTHY_THRESHOLD_MS"),
    "watchdog_tick_ms": _Key(200, checks.whole(10, 10_000)),
    "start_timeout_ms": _Key(30_000, checks.whole(100, 600_000)),
    "memory_limit_mb": _Key(1024, checks.whole(0, 1_048_576)),
}
_FEEDS: Final[dict[str, _Key]] = {
    "tcp": _Key(None, checks.host, "PARAPHINA_FEEDS_TCP"),
    "tcp_port": _Key(5600, checks.whole(1, 65_000), "PARAPHINA_FEEDS_TCP_PORT"),
    "curve_dir": _Key(None, checks.directory, "PARAPHINA_FEEDS_CURVE_DIR"),
}
_GATEWAY: Final[dict[str, _Key]] = {
    "http": _Key("127.0.0.1:9464", checks.http_address, "PARAPHINA_GATEWAY_HTTP", can_be_empty=True),
    "remote": _Key(False, checks.flag, "PARAPHINA_GATEWAY_REMOTE"),
    "hosts": _Key((), checks.host_names, "PARAPHINA_GATEWAY_HOSTS"),
    "per_market": _Key(True, checks.flag, "PARAPHINA_GATEWAY_PER_MARKET"),
}
#: For the system; a venue's own setting of the same name has precedence.
_NETWORK: Final[dict[str, _Key]] = {
    "proxy": _Key(None, proxy_url, "PARAPHINA_PROXY", is_hidden=True),
    "proxy_auth_file": _Key(None, auth_file, "PARAPHINA_PROXY_AUTH_FILE"),
    "ca_file": _Key(None, ca_file, "PARAPHINA_CA_FILE"),
    "source_address": _Key(None, source_address, "PARAPHINA_SOURCE_ADDRESS"),
}
#: For line b of a venue: what differs from line a. Ids and numbers behind the URLs must be the same.
_LINE_B: Final[dict[str, _Key]] = {
    "ws_url": _Key(None, checks.url("ws", "wss")),
    "rest_url": _Key(None, checks.url("http", "https")),
    "tcp_port": _Key(None, checks.whole(1, 65_534)),
    **{key: replace(spec, env=f"PARAPHINA_<V>_LINE_B_{key.upper()}") for key, spec in _NETWORK.items()},
}
#: Table of line b in a venue's section.
_LINE_B_TABLE: Final = "line_b"
_VENUE: Final[dict[str, _Key]] = {
    "markets": _Key(None, checks.markets),
    "lines": _Key(None, checks.whole(1, len(LINES)), "PARAPHINA_<V>_LINES"),
    "stale_ms": _Key(10_000, checks.whole(100, 3_600_000), "PARAPHINA_<V>_STALE_MS"),
    "connect_timeout_ms": _Key(15_000, checks.whole(100, 600_000), "PARAPHINA_<V>_WS_CONNECT_TIMEOUT_MS"),
    "read_timeout_ms": _Key(30_000, checks.whole(500, 3_600_000), "PARAPHINA_<V>_WS_READ_TIMEOUT_MS"),
    "ping_interval_ms": _Key(None, checks.whole(100, 3_600_000), "PARAPHINA_<V>_PING_INTERVAL_MS"),
    "pong_timeout_ms": _Key(None, checks.whole(100, 600_000)),
    "funding_poll_ms": _Key(10_000, checks.whole(500, 3_600_000), "PARAPHINA_<V>_FUNDING_POLL_MS"),
    "fixture_dir": _Key(None, checks.directory, "<V>_FIXTURE_DIR"),
    "account": _Key(None, checks.alias, "PARAPHINA_<V>_ACCOUNT", is_hidden=True),
    "account_period_ms": _Key(60_000, checks.whole(1000, 3_600_000)),
    "ws_url": _Key(None, checks.url("ws", "wss")),
    "rest_url": _Key(None, checks.url("http", "https")),
    **{key: replace(spec, env=f"PARAPHINA_<V>_{key.upper()}") for key, spec in _NETWORK.items()},
}


@dataclass(frozen=True, slots=True)
class Setting:
    """Effective setting: dotted key, value, and source."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class LineConfig:
    """Settings of line b of a venue that may differ from those of line a."""

    ws_url: str
    rest_url: str
    dial: DialOptions
    #: TCP port of its feed; None for the next free one.
    tcp_port: int | None = None


@dataclass(frozen=True, slots=True)
class VenueConfig:
    """Settings of one venue; see ``etc/paraphina.toml``."""

    name: str
    markets: tuple[str, ...]
    stale_ms: int
    connect_timeout_ms: int
    read_timeout_ms: int
    ping_interval_ms: int | None
    pong_timeout_ms: int | None
    funding_poll_ms: int
    ws_url: str
    rest_url: str
    options: Mapping[str, str]
    #: Directory of recorded frames to replay; None to connect to the venue.
    fixture_dir: str | None = None
    #: Public name of the account to follow; None for none.
    account: str | None = None
    account_period_ms: int = 60_000
    #: Proxy, authorities and source address of its connections.
    dial: DialOptions = DIRECT
    #: Settings of line b; None for a venue with one line.
    line_b: LineConfig | None = None
    #: Why it has one line though two are configured; None where that is so.
    single_line: str | None = None

    @property
    def lines(self) -> tuple[Line | None, ...]:
        """Lines of the venue; None stands for an only one."""
        return (None,) if self.line_b is None else LINES

    def of_line(self, line: Line | None) -> VenueConfig:
        """Return the settings with the addresses of a line."""
        if line != LINES[-1] or self.line_b is None:
            return self
        own = self.line_b
        return replace(self, ws_url=own.ws_url, rest_url=own.rest_url, dial=own.dial)


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Settings of the gateway's HTTP server.

    Attributes:
        http: Address to listen on; None for no server.
        is_remote: Whether other machines may reach it: it serves without encryption and without a login.
        hosts: Names by which it may be addressed, beside ``localhost`` and IP addresses.
        per_market: Whether the metrics have a series for each market.
    """

    http: HttpAddress | None
    is_remote: bool
    hosts: tuple[str, ...]
    per_market: bool


@dataclass(frozen=True, slots=True)
class Config:
    """Valid configuration."""

    venues: Mapping[str, VenueConfig]
    run_dir: str | None
    tick_ms: int
    log_level: str
    watchdog_tick_ms: int
    start_timeout_ms: int
    memory_limit_mb: int
    blackbox_kb: int
    blackbox_dir: str
    blackbox_keep: int
    fixture_speed: str
    backoff: BackoffPolicy
    #: Part of each venue's limits per IP address that this system may use.
    limit_share: float
    #: TCP address of the feeds; None for sockets in the run directory alone.
    network: Network | None
    gateway: GatewayConfig
    #: Every setting with its source, for ``config show``.
    settings: tuple[Setting, ...] = field(repr=False)

    @property
    def bases(self) -> tuple[str, ...]:
        """Base assets of all venues."""
        return tuple(dict.fromkeys(base for venue in self.venues.values() for base in venue.markets))


def load(path: str | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Config:
    """Load and check the configuration.

    Args:
        path: The file; None for ``PARAPHINA_CONFIG``, or no file if that is not set.
        environ: The environment.
        flags: Dotted keys to values given on the command line (``supervisor.venues``).

    Raises:
        ConfigError: With all mistakes.
    """
    path = path or environ.get("PARAPHINA_CONFIG") or None
    reader = _Reader(path, environ, flags)
    supervisor = reader.section("supervisor", _SUPERVISOR)
    health = reader.section("health", _HEALTH)
    feeds = reader.section("feeds", _FEEDS)
    if feeds["tcp"] and not feeds["curve_dir"] and not is_loopback(feeds["tcp"]):
        reader.problems.append(f"feeds.tcp: {feeds['tcp']} is not loopback; set feeds.curve_dir as well")
    gateway = _gateway_config(reader.section("gateway", _GATEWAY), reader.problems)
    network = reader.section("network", _NETWORK)
    if feeds["tcp"] and feeds["curve_dir"]:
        problems = KeyDirectory(Path(feeds["curve_dir"])).problems()
        reader.problems += [f"feeds.curve_dir: {problem}" for problem in problems]
    per_venue = {venue.name: reader.venue(venue) for venue in VENUES.values()}
    second = {venue.name: reader.line_b(venue) for venue in VENUES.values()}
    dial, problems = dial_options(network, per_venue, second, environ, {of.key: of.source for of in reader.settings})
    reader.problems += problems
    reader.finish()
    policy = BackoffPolicy(
        base_s=supervisor["backoff_base_ms"] / 1000,
        cap_s=max(supervisor["backoff_cap_ms"], supervisor["backoff_base_ms"]) / 1000,
        healthy_s=health["healthy_threshold_ms"] / 1000,
        jitter=supervisor["jitter"],
        first_immediate=supervisor["first_restart"] == "immediate",
    )
    venues = {
        name: _with_lines(
            _venue_config(VENUES[name], per_venue[name], supervisor, dial[name][0]),
            per_venue[name]["lines"] or supervisor["lines"],
            second[name],
            dial[name][1],
        )
        for name in supervisor["venues"]
    }
    return Config(
        venues,
        supervisor["run_dir"],
        supervisor["tick_ms"],
        supervisor["log_level"],
        health["watchdog_tick_ms"],
        health["start_timeout_ms"],
        health["memory_limit_mb"],
        supervisor["blackbox_kb"],
        supervisor["blackbox_dir"] or str(state_path(environ) / "blackbox"),
        supervisor["blackbox_keep"],
        supervisor["fixture_speed"],
        policy,
        supervisor["limit_share"],
        feed_network(feeds, venues, {name: of.line_b.tcp_port for name, of in venues.items() if of.line_b}),
        gateway,
        tuple(reader.settings),
    )


def state_path(environ: Mapping[str, str]) -> Path:
    """Return the directory of logs and black boxes: ``$XDG_STATE_HOME/paraphina`` or ``~/.local/state/paraphina``."""
    state = environ.get("XDG_STATE_HOME")
    path = Path(state) if state else Path(environ.get("HOME", "/")) / ".local" / "state"
    return Path(absolute(str(path))) / "paraphina"


def _fixture_dir(venue: Venue, values: Mapping[str, Any], shared: str | None) -> str | None:
    """Return the venue's own directory, or else its subdirectory of the one for all venues, if it exists."""
    part = Path(shared) / venue.name if shared else None
    return values["fixture_dir"] or (str(part) if part is not None and part.is_dir() else None)


def _gateway_config(values: Mapping[str, Any], problems: list[str]) -> GatewayConfig:
    """Return the gateway's settings; add to ``problems`` an address that other machines reach without permission."""
    http = HttpAddress.parse(values["http"]) if values["http"] else None
    if http is not None and not http.is_local and not values["remote"]:
        problems.append(
            f"gateway.http: {values['http']} is not loopback, and the pages are neither encrypted nor protected by a "
            "login; listen on 127.0.0.1 behind a reverse proxy, or set gateway.remote = true"
        )
    return GatewayConfig(http, values["remote"], values["hosts"], values["per_market"])


def _venue_config(
    venue: Venue, values: Mapping[str, Any], supervisor: Mapping[str, Any], dial: DialOptions
) -> VenueConfig:
    return VenueConfig(
        name=venue.name,
        markets=values["markets"] or supervisor["markets"],
        ws_url=values["ws_url"] or venue.ws_url,
        rest_url=values["rest_url"] or venue.rest_url,
        options={option: values[option] for option in venue.options},
        fixture_dir=_fixture_dir(venue, values, supervisor["fixture_dir"]),
        account=values["account"],
        dial=dial,
        **{key: values[key] for key in _VENUE if key.endswith("_ms")},
    )


def _with_lines(venue: VenueConfig, lines: int, second: Mapping[str, Any], dial: DialOptions) -> VenueConfig:
    """Return a venue's settings with its second line, if it is to have one and nothing speaks against it."""
    if lines == 1:
        return venue
    reason = single_line_reason(venue)
    if reason is not None:
        return replace(venue, single_line=reason)
    own = LineConfig(second["ws_url"] or venue.ws_url, second["rest_url"] or venue.rest_url, dial, second["tcp_port"])
    return replace(venue, line_b=own)


def single_line_reason(venue: VenueConfig) -> str | None:
    """Return why a venue can have one line only; None when it can have two."""
    if venue.fixture_dir is not None:
        return "a recording is played on one line"
    limit = VENUES[venue.name].limits.markets_on_two_lines
    if limit is not None and len(venue.markets) > limit:
        return f"its limit of subscriptions per IP address allows two lines of at most {limit} markets"
    return None


class _Reader:
    """Reader of settings from file, environment and flags; collects mistakes."""

    def __init__(self, path: str | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> None:
        self.problems: list[str] = []
        self.settings: list[Setting] = []
        self._path = path
        self._environ = environ
        self._flags = flags
        self._known_variables: set[str] = set()
        self._file = self._read()
        self._check_sections()

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            return tomllib.loads(_content(absolute(self._path)).decode("utf-8-sig"))
        except OSError as error:
            raise ConfigError([f"{self._path}: cannot be read: {error.strerror}"]) from error
        except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8, numbers of thousands of digits, nesting
            raise ConfigError([f"{self._path}: not a TOML file: {error}"]) from error

    def _check_sections(self) -> None:
        known = ("supervisor", "health", "feeds", "gateway", "network", "venues")
        for name, value in self._file.items():
            if name not in known:
                self._problem(name, f"unknown section {checks.close(name, known)}")
            elif not isinstance(value, dict):
                self._problem(name, "a section is wanted: [" + name + "]")
        venues = self._file.get("venues")
        for name, value in (venues if isinstance(venues, dict) else {}).items():
            if name not in VENUES:
                self._problem(f"venues.{name}", f"unknown venue {checks.close(name, VENUES)}")
            elif not isinstance(value, dict):
                self._problem(f"venues.{name}", f"a section is wanted: [venues.{name}]")

    def section(self, name: str, keys: Mapping[str, _Key]) -> dict[str, Any]:
        """Return the values of a top-level section."""
        return self._values(name, self._file.get(name), keys, "")

    def venue(self, venue: Venue) -> dict[str, Any]:
        """Return the values of a venue's section."""
        options = {option: _Key(words[0], checks.one_of(*words)) for option, words in venue.options.items()}
        table = {key: value for key, value in self._venue_table(venue).items() if key != _LINE_B_TABLE}
        return self._values(f"venues.{venue.name}", table, {**_VENUE, **options}, venue.env)

    def line_b(self, venue: Venue) -> dict[str, Any]:
        """Return the values of the table of a venue's line b."""
        name = f"venues.{venue.name}.{_LINE_B_TABLE}"
        table = self._venue_table(venue).get(_LINE_B_TABLE, {})
        if not isinstance(table, dict):
            self._problem(name, f"a section is wanted: [{name}]")
        return self._values(name, table, _LINE_B, venue.env)

    def _venue_table(self, venue: Venue) -> dict[str, Any]:
        venues = self._file.get("venues")
        table = venues.get(venue.name) if isinstance(venues, dict) else None
        return table if isinstance(table, dict) else {}

    def finish(self) -> None:
        """Raise ConfigError if there were mistakes."""
        words = tuple(f"PARAPHINA_{word}_" for venue in VENUES.values() for word in (venue.env, venue.name.upper()))
        words += tuple(f"{venue.name.upper()}_FIXTURE_DIR" for venue in VENUES.values())
        for name in self._environ:
            if name in self._known_variables:
                continue
            # Other programs may use the same prefix, so only a near miss counts as a mistake.
            is_near_miss = name.startswith("PARAPHINA_") and difflib.get_close_matches(
                name, self._known_variables, n=1, cutoff=_NEAR_MISS
            )
            if name.startswith(words) or is_near_miss:
                near = checks.close(name, self._known_variables)
                self.problems.append(f"environment:{name}: unknown variable {near}")
        if self.problems:
            raise ConfigError(self.problems)

    def _values(self, section: str, table: object, keys: Mapping[str, _Key], word: str) -> dict[str, Any]:
        given = table if isinstance(table, dict) else {}
        for key in given:
            if key not in keys:
                self._problem(f"{section}.{key}", f"unknown key {checks.close(key, keys)}")
        return {key: self._value(f"{section}.{key}", key, spec, given, word) for key, spec in keys.items()}

    def _value(self, dotted: str, key: str, spec: _Key, given: Mapping[str, Any], word: str) -> Any:
        variable = spec.env.replace("<V>", word) if spec.env else None
        if variable is not None:
            self._known_variables.add(variable)
        if dotted in self._flags:
            raw, source = self._flags[dotted], "flag"
        elif variable is not None and self._is_set(variable, spec):
            raw, source = self._environ[variable], f"environment:{variable}"
        elif key in given:
            raw, source = given[key], f"{self._path}:{dotted}"
        else:
            self.settings.append(Setting(dotted, spec.default, "default"))
            return spec.default
        try:
            value = spec.check(raw)
        except ValueError as error:
            where = f"--{key.replace('_', '-')}" if source == "flag" else source
            shown = "what is given" if spec.is_hidden else repr(raw)
            self.problems.append(f"{where}: {shown} will not do; it takes {error}")
            return spec.default
        self.settings.append(Setting(dotted, value, source))
        return value

    def _is_set(self, variable: str, spec: _Key) -> bool:
        return variable in self._environ if spec.can_be_empty else bool(self._environ.get(variable))

    def _problem(self, dotted: str, what: str) -> None:
        self.problems.append(f"{self._path}:{dotted}: {what}")


def _content(path: str) -> bytes:
    """Return the bytes of a configuration file; raise ConfigError if it is not a small regular file."""
    if not stat.S_ISREG(Path(path).stat().st_mode):  # opening a FIFO would wait for a writer
        raise ConfigError([f"{path}: not a regular file"])
    with Path(path).open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ConfigError([f"{path}: larger than {_MAX_BYTES} bytes; a configuration has some hundred lines"])
    return content
