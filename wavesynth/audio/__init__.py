"""Audio files, MIDI, mu-law codes, spectra, pitch and playback."""
