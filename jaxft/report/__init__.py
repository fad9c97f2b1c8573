"""What a run leaves behind: its folder, tables, plots and model card."""
