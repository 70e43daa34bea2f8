"""Reports as text, pages, figures and traces."""
