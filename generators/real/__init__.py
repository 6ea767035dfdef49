"""Real networks whose lineage is documented: downloaded, checked by hash, and converted into data sets."""
