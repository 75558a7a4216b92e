"""What a caller may ask for one job beyond its type and payload, and how that is checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    model_validator,
)

from shared.contracts import (
    Backoff,
    ExponentialBackoff,
    FixedBackoff,
    parse_priority,
    validation_failed,
)
from shared.engine.adding import LONGEST_WINDOW_MS, Dedupe, DedupeMode, check_name
from shared.errors import ContractError, ValidationFailed

#: no job waits longer than this for its time; a longer wait is a mistake in seconds and milliseconds
LONGEST_DELAY_MS = 366 * 24 * 3600 * 1000

StrictInt = Annotated[int, Strict()]
StrictFloat = Annotated[float, Strict(), Field(allow_inf_nan=False)]


def _as_time(value: object) -> object:
    # pydantic would take a bare number for seconds or, past a threshold, milliseconds since the epoch.
    if not isinstance(value, str | datetime):
        # pydantic collects ValueErrors only
        raise ValueError("use ISO 8601 with a timezone, e.g. '2026-01-31T09:00:00Z'")  # noqa: TRY004
    return value


def _as_priority(value: object) -> object:
    if not isinstance(value, str | int):
        raise ValueError("use a name or an integer")  # noqa: TRY004
    try:
        return parse_priority(value)
    except ValidationFailed as error:
        raise ValueError(error.detail) from None


def _checked(kind: str, name: str) -> str:
    try:
        return check_name(kind, name)
    except ValidationFailed as error:
        raise ValueError(error.detail.removesuffix(".")) from None


class _Option(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FixedBackoffOption(_Option):
    """The same wait after every attempt."""

    kind: Literal["fixed"]
    wait_ms: StrictInt

    def build(self) -> Backoff:
        """Make the backoff.

        Raises:
            ContractError: when the wait is out of range.
        """
        return FixedBackoff(self.wait_ms)


class ExponentialBackoffOption(_Option):
    """A wait that grows by a factor after each attempt."""

    kind: Literal["exponential"]
    base_ms: StrictInt = 1_000
    cap_ms: StrictInt = 3_600_000
    factor: StrictFloat = 2.0
    jitter: StrictFloat = 0.0

    def build(self) -> Backoff:
        """Make the backoff.

        Raises:
            ContractError: when the figures contradict each other.
        """
        return ExponentialBackoff(self.base_ms, self.cap_ms, self.factor, self.jitter)


class DedupeOption(_Option):
    """A key that one job of a queue holds at a time, see :class:`shared.engine.adding.Dedupe`."""

    key: str
    mode: DedupeMode = DedupeMode.REJECT
    window_ms: Annotated[StrictInt, Field(ge=0, le=LONGEST_WINDOW_MS)] | None = None
    window_s: Annotated[StrictFloat, Field(ge=0, le=LONGEST_WINDOW_MS / 1000)] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> DedupeOption:
        if self.window_ms is not None and self.window_s is not None:
            raise ValueError("window_ms and window_s say the same: give one of them")
        return self

    def build(self) -> Dedupe:
        """Make the engine's value.

        Raises:
            ValidationFailed: when its parts do not fit together.
        """
        window_ms = round(self.window_s * 1000) if self.window_s is not None else self.window_ms or 0
        return Dedupe(self.key, self.mode, window_ms)


class JobOptions(_Option):
    """What a caller may ask for one job; what is left out (or null) is as the contract says."""

    priority: Annotated[int | None, BeforeValidator(lambda value: None if value is None else _as_priority(value))] = (
        None
    )
    delay_ms: Annotated[StrictInt, Field(ge=0, le=LONGEST_DELAY_MS)] | None = None
    delay_s: Annotated[StrictFloat, Field(ge=0, le=LONGEST_DELAY_MS / 1000)] | None = None
    run_at: Annotated[AwareDatetime, BeforeValidator(_as_time)] | None = None
    attempts: Annotated[StrictInt, Field(ge=1, le=100)] | None = None
    backoff: Annotated[FixedBackoffOption | ExponentialBackoffOption, Field(discriminator="kind")] | None = None
    timeout_s: Annotated[StrictFloat, Field(gt=0, le=30 * 24 * 3600)] | None = None
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=20)] | None = None
    owner: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    keep_s: Annotated[StrictInt, Field(ge=0, le=10 * 366 * 24 * 3600)] | None = None
    group: Annotated[str, AfterValidator(lambda value: _checked("group", value))] | None = None
    dedupe: DedupeOption | None = None
    idempotency_key: Annotated[str, AfterValidator(lambda value: _checked("idempotency key", value))] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> JobOptions:
        times = [name for name in ("delay_ms", "delay_s", "run_at") if getattr(self, name) is not None]
        if len(times) > 1:
            raise ValueError(f"{' and '.join(times)} say when to run: give one of them")
        if self.backoff is not None:
            try:
                self.backoff.build()
            except ContractError as error:
                raise ValueError(f"backoff: {error.detail}") from None
        if self.dedupe is not None:
            self._check_dedupe(self.dedupe)
        return self

    def _check_dedupe(self, given: DedupeOption) -> None:
        try:
            dedupe = given.build()
        except ValidationFailed as error:
            raise ValueError(f"dedupe: {error.detail.removesuffix('.')}") from None
        if dedupe.mode is DedupeMode.DEBOUNCE and self.run_at is None and not self.wait_ms:
            raise ValueError("dedupe: debouncing needs a delay that can start anew: give window_s, or a delay")

    @property
    def wait_ms(self) -> int:
        """How long the job waits at least, milliseconds."""
        wait_ms = self.delay_ms or 0 if self.delay_s is None else round(self.delay_s * 1000)
        if not wait_ms and self.run_at is None and self.dedupe and self.dedupe.mode is DedupeMode.DEBOUNCE:
            return self.dedupe.build().window_ms
        return wait_ms

    @property
    def run_at_ms(self) -> int | None:
        """When the job may run, milliseconds since the epoch."""
        return None if self.run_at is None else round(self.run_at.timestamp() * 1000)

    def stored(self) -> dict[str, Any]:
        """Give what is stored with the job: the options that its run needs, and only those that were given."""
        return self.model_dump(
            mode="json",
            include={"attempts", "backoff", "timeout_s", "tags", "owner", "keep_s"},
            exclude_none=True,
        )


def parse_options(data: Mapping[str, Any] | None) -> JobOptions:
    """Check a job's options.

    Raises:
        ValidationFailed: with one entry a mistake.
    """
    try:
        return JobOptions.model_validate(dict(data or {}))
    except ValidationError as error:
        raise validation_failed("options", error, within="options") from None
