module millrace/tests/go/grpc

go 1.23.0

require (
	github.com/s2-streamstore/s2-sdk-go v0.10.0
	google.golang.org/grpc v1.70.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/s2-streamstore/optr v1.1.0 // indirect
	golang.org/x/net v0.34.0 // indirect
	golang.org/x/sys v0.29.0 // indirect
	golang.org/x/text v0.21.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20250127172529-29210b9bc287 // indirect
	google.golang.org/protobuf v1.36.4 // indirect
)
