"""The tools: few and wide, each with what it takes, what it answers, and when to use it."""
