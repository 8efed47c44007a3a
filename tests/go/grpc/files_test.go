// Real files, cut into records, come back byte for byte: by single requests and by sessions.

package grpc

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/s2-streamstore/s2-sdk-go/s2"
)

// Cuts the content into batches of records of very different sizes, the largest one that fits and empty ones among them.
func cut(content []byte) []*s2.AppendInput {
	const overhead = 8
	sizes := []int{int(s2.MaxBatchBytes) - overhead, 0, 1, 4096, 70_000, 17, 300_001}
	var left []s2.AppendRecord
	for i := 0; len(content) > 0; i++ {
		size := min(sizes[i%len(sizes)], len(content))
		left = append(left, s2.AppendRecord{Body: content[:size]})
		content = content[size:]
	}
	var inputs []*s2.AppendInput
	for len(left) > 0 {
		batch, rest := s2.NewAppendRecordBatch(left...)
		inputs = append(inputs, &s2.AppendInput{Records: batch})
		left = rest
	}
	return inputs
}

func joined(records []s2.SequencedRecord) []byte {
	var content []byte
	for _, record := range records {
		content = append(content, record.Body...)
	}
	return content
}

// What is written to a file and read from it again.
func generated(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "content")
	content := make([]byte, 5<<20+123)
	if _, err := rand.NewChaCha8([32]byte{5}).Read(content); err != nil {
		t.Fatal(err)
	}
	succeeds(t, os.WriteFile(path, content, 0o600))
	return must(os.ReadFile(path))(t)
}

func TestAFileGoesThroughSessions(t *testing.T) {
	ctx := start(t)
	stream, content := newStream(t, ctx), generated(t)
	sender, receiver, err := stream.AppendSession(ctx)
	succeeds(t, err)
	inputs := cut(content)
	sent := send(sender, inputs)
	end := uint64(0)
	for range inputs {
		end = must(receiver.Recv())(t).EndSeqNum
	}
	succeeds(t, <-sent)
	got := readSession(t, ctx, stream, end)
	equal(t, uint64(len(got)), end)
	equal(t, bytes.Equal(joined(got), content), true)
}

func TestFilesGoThroughSingleRequests(t *testing.T) {
	sources := must(filepath.Glob("*"))(t)
	equal(t, slices.Contains(sources, "files_test.go"), true)
	contents := [][]byte{generated(t)}
	for _, source := range sources {
		contents = append(contents, must(os.ReadFile(source))(t))
	}
	ctx := start(t)
	for _, content := range contents {
		stream := newStream(t, ctx)
		end := uint64(0)
		for _, input := range cut(content) {
			end = must(stream.Append(ctx, input))(t).EndSeqNum
		}
		var got []byte
		for next := uint64(0); next < end; {
			page := read(t, ctx, stream, from(next))
			equal(t, page[0].SeqNum, next)
			next += uint64(len(page))
			got = append(got, joined(page)...)
		}
		equal(t, bytes.Equal(got, content), true)
	}
}
