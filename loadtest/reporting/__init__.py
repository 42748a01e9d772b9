"""How every measurement writes its report: blocks, statistics, targets, figures, and the folder they end up in."""
