"""The mechanisms of DeepSeek, a file each: functions for the rules, modules for weights."""
