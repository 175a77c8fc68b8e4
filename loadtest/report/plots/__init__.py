"""The report's plots, each as an SVG that takes the page's colours."""
