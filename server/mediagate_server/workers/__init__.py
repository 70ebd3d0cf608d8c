"""Worker processes: functions on outside data, run where they can be killed."""
