"""Our strategies as models of evaluation programs: lm-eval (the Evaluation Harness) and Inspect."""
