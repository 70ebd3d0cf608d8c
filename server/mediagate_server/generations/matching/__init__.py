"""Matching of unconfirmed creates with the predictions that upstream lists."""
