module example.com/polyglot

go 1.24.0

require (
	github.com/mediagate/mediagate-go v0.0.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250804133106-a7a43d27e69b
	google.golang.org/grpc v1.76.0
	google.golang.org/protobuf v1.36.12
)

replace github.com/mediagate/mediagate-go => ../stubs
