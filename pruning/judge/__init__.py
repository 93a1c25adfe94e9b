"""What a judge reads, says and costs, and what it may be used for; pure, without a model.

The judges that read text with an encoder are in `reasoning.judging`.
"""
