"""One HTML file about runs, a batch or a comparison: pictures, tables and every trajectory."""
