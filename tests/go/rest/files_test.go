// Real files, cut into records, come back byte for byte: by single requests and by sessions.

package rest

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
	sizes := []int{s2.MaxBatchMeteredBytes - overhead, 0, 1, 4096, 70_000, 17, 300_001}
	inputs := []*s2.AppendInput{{}}
	for i := 0; len(content) > 0; i++ {
		size := min(sizes[i%len(sizes)], len(content))
		record := s2.AppendRecord{Body: content[:size]}
		content = content[size:]
		last := inputs[len(inputs)-1]
		room := s2.MaxBatchMeteredBytes - s2.MeteredBatchBytes(last.Records)
		if len(last.Records) > 0 && room < int64(s2.MeteredPayloadBytes(record)) {
			last = &s2.AppendInput{}
			inputs = append(inputs, last)
		}
		last.Records = append(last.Records, record)
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
	session := must(stream.AppendSession(ctx, &s2.AppendSessionOptions{MaxInflightBytes: 16 << 20}))(t)
	var tickets []*s2.BatchSubmitTicket
	count := 0
	for _, input := range cut(content) {
		tickets = append(tickets, submit(t, ctx, session, input))
		count += len(input.Records)
	}
	for _, ticket := range tickets {
		ackOf(t, ctx, ticket)
	}
	succeeds(t, session.Close())
	records := readSession(t, ctx, stream, uint64(count))
	equal(t, len(records), count)
	equal(t, bytes.Equal(joined(records), content), true)
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
			end = must(stream.Append(ctx, input))(t).End.SeqNum
		}
		var read []byte
		for next := uint64(0); next < end; {
			records := must(stream.Read(ctx, from(next)))(t).Records
			equal(t, records[0].SeqNum, next)
			next += uint64(len(records))
			read = append(read, joined(records)...)
		}
		equal(t, bytes.Equal(read, content), true)
	}
}
