"""Four ways to think together: what each thread of the shipped model sees, and what that saves.

Branches see what was before the fork, paths themselves, workers and thinkers each other, token by
token.  Each is compared with the same work done by one thread.
"""

from reasoning import solve_sync

SEVERAL = "Compute each: 1) 13+4*15-2; 2) (17-2)*6+9; 3) 12*8-5*3+20; 4) (90-46)*6+1; 5) 8*9-(14+7)"
GRAPH = "Find the shortest distances between all nodes of the graph with edges "
TOGETHER = {
    "multiverse": (SEVERAL, "single"),
    "parathinker": ("Use 3, 10, 21 and 23 to make 50", "single"),
    "hogwild": (SEVERAL, "hogwild:n=1"),
    "group-think": (GRAPH + "0 10 27 17; 71 0 68 86; 37 1 0 33; 30 24 8 0", "group-think:n=1"),
}

for strategy, (problem, alone) in TOGETHER.items():
    shared, one = (solve_sync(problem, strategy=name) for name in (strategy, alone))
    print(f"{strategy}: {shared.answer}  {'right' if shared.verified else 'wrong'}")
    print(
        f"  {len(shared.threads)} threads, {shared.parallelism:.1f} at once: a chain of "
        f"{shared.usage.span_tokens} tokens, {alone} needs one of {one.usage.span_tokens}"
    )
