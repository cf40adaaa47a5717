"""What things cost: readers of the clouds' public price APIs (`aws`, `azure`, `gcp`) and of tables (`tables`), all of
which give `types.Tables`; the catalog that keeps them with their age; what the user's own file says instead."""
