"""Sound in and out: files, mu-law codes, spectra."""
