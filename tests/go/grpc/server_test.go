// S2's own Go SDK of the gRPC generation (0.10.0), which speaks TLS only and trusts the roots of the system. This file starts the
// server that it talks to: the binary `MILLRACE_BIN` with a certificate of its own, on a free port, in a temporary directory.
// Or else `S2_ACCOUNT_ENDPOINT` and `S2_BASIN_ENDPOINT` (host:port) name one that runs already.

package grpc

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const (
	startSecondsMax = 30
	stopSecondsMax  = 30
)

func TestMain(m *testing.M) {
	if os.Getenv("S2_ACCOUNT_ENDPOINT") != "" && os.Getenv("S2_BASIN_ENDPOINT") != "" {
		os.Exit(m.Run())
	}
	status, err := withServer(os.Getenv("MILLRACE_BIN"), m.Run)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(status)
}

func withServer(binary string, run func() int) (int, error) {
	if binary == "" {
		return 0, fmt.Errorf("MILLRACE_BIN names the server's binary, or S2_ACCOUNT_ENDPOINT and S2_BASIN_ENDPOINT a running server")
	}
	folder, err := os.MkdirTemp("", "millrace-go-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(folder)
	port, err := freePort()
	if err != nil {
		return 0, err
	}
	endpoint := fmt.Sprintf("localhost:%d", port)
	data := filepath.Join(folder, "data")
	server := exec.Command(binary, "serve", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--data", data, "--tls-self")
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	if err := awaitPort(endpoint, ended); err != nil {
		server.Process.Kill()
		text, _ := os.ReadFile(log.Name())
		return 0, fmt.Errorf("the server does not start: %w\n%s", err, text)
	}
	os.Setenv("S2_ACCOUNT_ENDPOINT", endpoint)
	os.Setenv("S2_BASIN_ENDPOINT", endpoint)
	// Read when the first connection is made, and never again.
	os.Setenv("SSL_CERT_FILE", filepath.Join(data, "tls-self.crt"))
	status := run()
	return status, stop(server, ended)
}

// A port that was free a moment ago.
func freePort() (int, error) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer probe.Close()
	return probe.Addr().(*net.TCPAddr).Port, nil
}

func awaitPort(endpoint string, ended <-chan error) error {
	deadline := time.After(startSecondsMax * time.Second)
	for {
		if connection, err := net.Dial("tcp", endpoint); err == nil {
			return connection.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended: %v", err)
		case <-deadline:
			return fmt.Errorf("nobody listens after %d s", startSecondsMax)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// The server must end well when it is asked to.
func stop(server *exec.Cmd, ended <-chan error) error {
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("the server ended before it was asked to: %w", err)
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(stopSecondsMax * time.Second):
		server.Process.Kill()
		return fmt.Errorf("the server still runs after %d s", stopSecondsMax)
	}
}
