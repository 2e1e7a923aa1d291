"""What any flow needs around its work: forms, progress, approval, notifications, markdown, state, quiet logs."""
