"""What a Jetson tells of itself: its rails and steps, the lines of tegrastats, its sysfs, its modes."""
