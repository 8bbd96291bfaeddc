"""A comparison with something in every field, for tests of what reads one."""

from tpo_graph.evaluation.results import (
    Answer,
    Cell,
    Comparison,
    Cost,
    Curve,
    Estimate,
    Method,
    MethodResult,
    Pair,
    Point,
    Seed,
    Stability,
    WinRate,
)


def full_comparison() -> Comparison:
    some = Estimate(1.5, 1.0, 2.0)
    single = Estimate(-0.25, None, None)
    return Comparison(
        kind="compare",
        name="trial",
        created_at="2026-01-02T03:04:05Z",
        database="sqlite:///tpo.db",
        source="prompts <1>.jsonl",
        prompts=1,
        bad_rows=1,
        seeds=[0, 1],
        model="policy",
        critic="policy",
        reward_model="reward",
        methods=[
            MethodResult(
                method=Method("tpo", "TPO D2-N5", 5, 2, "tpo", "policy"),
                finished=1,
                failed=1,
                reward=some,
                gain=single,
                length=Estimate(80.0, None, None),
                tokens=Estimate(900.0, None, None),
                cost=Cost(15.0, 7.0, 600.0, 300.0, 9.39, None, 0.01),
                audit=None,
                seeds=[
                    Seed(0, "trial/tpo/seed-0", 1, 0, 1.5, -0.25, 80.0, 900.0),
                    Seed(1, "trial/tpo/seed-1", 0, 1, None, None, None, None),
                ],
                answers=[Answer("row ü", 0, "run-1", 1.5, 1.75, 80, 900, None)],
            )
        ],
        pairs=[
            Pair("tpo", "best-of-n", 1, some, single, None, [WinRate("judge", "j", 1, 0, 0, some)])
        ],
        curves=[Curve("tpo", "TPO D2-N5", False, [Point(0, some, some, some, 12.5, 1)])],
        stability=[Stability("tpo", "TPO D2-N5", 5, 0, None, None, some)],
        grid=[Cell(5, 0, 1, some, single, 5.0, 100.0)],
        budget="tokens",
        audit_reward_model="other",
        judge="j",
        notes=["a note"],
    )
