"""Solve a problem from Python, and look at the threads that did it."""

from reasoning import solve_sync

solution = solve_sync("Use 3, 10, 21 and 23 to make 50", n=16)

print(solution.answer, "-", solution.verdict.reason if solution.verdict else "no answer")
print(f"work {solution.usage.work_tokens}, span {solution.usage.span_tokens} tokens")
for thread in solution.threads:
    print(f"{thread.id:6} {thread.state:10} {thread.tokens:4} tokens  {thread.answer or ''}")
