"""What people read: records as boards, report, verdicts, explanations and files for other programs."""
