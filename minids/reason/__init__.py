"""Reasoning: tasks with verifiers, supervised tuning, rollouts, GRPO, distillation, test time."""
