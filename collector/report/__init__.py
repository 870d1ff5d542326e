"""Ways to show a comparison: terminal, Markdown, and one self-contained HTML file."""
