module example.com/replicate-client

go 1.24.0

require github.com/replicate/replicate-go v0.26.0
