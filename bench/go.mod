module github.com/antievilmaid/aem/bench

go 1.26.0

require (
	github.com/antievilmaid/aem v0.0.0
	github.com/google/go-attestation v0.6.4
	github.com/google/go-eventlog v0.0.2
)

require (
	github.com/google/go-tpm v0.9.8 // indirect
	golang.org/x/sys v0.49.0 // indirect
	google.golang.org/protobuf v1.34.2 // indirect
)

replace github.com/antievilmaid/aem => ../
