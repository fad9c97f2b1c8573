"""States of a run to resume from: written in the background, committed by a rename, verified before they are used."""
