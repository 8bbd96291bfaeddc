"""One query's way from the first samples to the answer, as elements."""

from collections.abc import Sequence
from statistics import fmean

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate, best, place
from tpo_graph.report.diff import compare
from tpo_graph.report.elements import Element, Node, h
from tpo_graph.report.figures import Table, number, table
from tpo_graph.store.runs import StoredRun, settings_of
from tpo_graph.store.trajectory import ScoredCandidate, Trajectory
from tpo_graph.store.trajectory import answer as answer_of

_LONG = 3_000
"""Characters beyond which a text scrolls in a box of its own."""


def trajectory(found: Trajectory) -> Element:
    """The query, the answer with what changed, rewards, then each iteration with its texts."""
    run, candidates = found["run"], found["candidates"]
    parts: list[Node] = [h("h3", "Query"), *_conversation(run)]
    if run["error"]:
        parts += [h("h3", "Error"), text(run["error"], "Error", "error")]
    if candidates:
        parts += [*_answer(found), h("h3", "Rewards"), _rewards(candidates)]
    else:
        parts.append(h("p", "Nothing was scored in this run.", class_="empty"))
    shown: dict[str, Candidate] = {}
    for step in found["steps"]:
        parts += _iteration(step, shown)
    parts += [h("h3", "Run"), _facts(run)]
    return h("div", *parts, class_="trajectory")


def text(content: str, label: str, kind: str = "") -> Element:
    """Text as it is. A long one scrolls in its own box, which the keyboard reaches."""
    if not content.strip():
        return h("p", "(empty)", class_="empty")
    return _box([content], len(content), label, kind)


def _box(children: Sequence[Node], length: int, label: str, kind: str) -> Element:
    classes = f"text {kind}".strip()
    if length <= _LONG:
        return h("div", *children, class_=classes, dir="auto")
    return h(
        "div",
        *children,
        class_=f"{classes} long",
        dir="auto",
        tabindex=0,
        role="region",
        aria_label=f"{label}, {length:,} characters",
    )


def _conversation(run: StoredRun) -> list[Node]:
    turns = run["conversation"]
    if len(turns) == 1:
        return [text(turns[0]["content"], "Query")]
    return [
        part
        for turn in turns
        for part in (h("h4", turn["role"].capitalize()), text(turn["content"], turn["role"]))
    ]


def _answer(found: Trajectory) -> list[Node]:
    answer = answer_of(found)
    firsts = [candidate for candidate in found["candidates"] if candidate["iteration"] == 0]
    title = "Answer" if found["run"]["status"] == "finished" else "Best response so far"
    if not firsts or answer["response"] == best(firsts)["response"]:
        note = (
            "This is the best first sample, unchanged." if firsts else "Earlier texts were pruned."
        )
        return [h("h3", title), h("p", note, class_="note"), text(answer["response"], title)]
    first = best(firsts)
    pieces = compare(first["response"], answer["response"])
    words = {
        kind: sum(len(piece.text.split()) for piece in pieces if piece.kind == kind)
        for kind in ("added", "removed")
    }
    tags = {"added": "ins", "removed": "del"}
    changed: list[Node] = [
        h(tags[piece.kind], piece.text) if piece.kind in tags else piece.text for piece in pieces
    ]
    note = (
        f"From the best first sample (reward {number(first['reward'])}) to iteration "
        f"{answer['iteration']} (reward {number(answer['reward'])}): {words['added']:,} words "
        f"added, {words['removed']:,} removed."
    )
    length = sum(len(piece.text) for piece in pieces)
    return [
        h("h3", title),
        h("p", note, class_="note"),
        _box(changed, length, "What changed", "diff"),
    ]


def _rewards(candidates: Sequence[ScoredCandidate]) -> Element:
    rows: list[list[str]] = []
    highest = float("-inf")
    others = sorted({name for c in candidates for name in c["other_rewards"]})
    for iteration in sorted({candidate["iteration"] for candidate in candidates}):
        here = [c for c in candidates if c["iteration"] == iteration]
        rewards = sorted((c["reward"] for c in here), reverse=True)
        highest = max(highest, rewards[0])
        rows.append(
            [
                *(str(iteration), number(highest), number(fmean(rewards))),
                *(_mean_of(here, name) for name in others),
                f"{fmean(len(c['response']) for c in here):,.0f}",
                ", ".join(map(number, rewards)),
            ]
        )
    columns = ["iteration", "best so far", "mean", *(f"mean by {name}" for name in others)]
    columns += ["mean characters", "all samples, best first"]
    return table(Table(columns, rows), "Rewards of the samples")


def _mean_of(candidates: Sequence[ScoredCandidate], model: str) -> str:
    rewards = [c["other_rewards"][model] for c in candidates if model in c["other_rewards"]]
    return number(fmean(rewards) if rewards else None)


def _iteration(step: Step, shown: dict[str, Candidate]) -> list[Node]:
    """What was compared and written; `shown` holds what earlier iterations have shown."""
    cells: list[Node] = []
    for role in ("chosen", "rejected"):
        if (candidate := step.get(role)) is not None:
            head = h(
                "h4",
                f"{role.capitalize()} ",
                h("span", number(candidate["reward"]), class_="reward"),
                h("small", place(candidate)),
            )
            body = text(candidate["response"], role)
            if shown.get(role) == candidate:
                body = h("p", "The same as in the iteration before.", class_="empty")
            shown[role] = candidate
            cells.append(h("section", head, body, class_=role))
    for part in ("loss", "gradient"):
        if (written := step.get(part)) is not None:
            body = text(written, part)
            cells.append(h("section", h("h4", part.capitalize()), body, class_=part))
    title = h("h3", f"Iteration {step['iteration']}")
    return [title, h("div", *cells, class_="step")] if cells else []


def _facts(run: StoredRun) -> Element:
    settings = settings_of(run["settings"])
    names = ("temperature", "top_p", "max_tokens", "seed", "criteria", "target_reward", "patience")
    chosen = [f"{name} {settings[name]}" for name in names if settings.get(name) is not None]
    facts = [
        ("run", run["run_id"]),
        ("status", run["stop_reason"] or run["status"]),
        ("setting", f"D{settings.get('depth')}-N{settings.get('width')}"),
        ("sampling", ", ".join(chosen)),
        ("policy", run["policy"]),
        ("critic", run["critic"] if run["critic"] != run["policy"] else ""),
        ("reward model", run["reward_model"]),
        ("prompts", run["prompts"]),
        ("started", f"{run['created_at']:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    pairs = [h("div", h("dt", name), h("dd", value, dir="auto")) for name, value in facts if value]
    return h("dl", *pairs, class_="facts")
