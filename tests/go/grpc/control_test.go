// Basins, streams, access tokens: made, listed, configured, deleted, and what is refused.

package grpc

import (
	"fmt"
	"testing"
	"time"

	"github.com/s2-streamstore/s2-sdk-go/s2"
	"google.golang.org/grpc/codes"
)

func age(seconds int) s2.RetentionPolicyAge {
	return s2.RetentionPolicyAge(time.Duration(seconds) * time.Second)
}

func TestBasinsAreMadeListedConfiguredAndDeleted(t *testing.T) {
	ctx, s := start(t), client(t)
	prefix := unique("go")
	for i := range 3 {
		name := fmt.Sprintf("%s-%d", prefix, i)
		info := must(s.CreateBasin(ctx, &s2.CreateBasinRequest{Basin: name, Config: &s2.BasinConfig{}}))(t)
		equal(t, info.Name, name)
		equal(t, info.State, s2.BasinStateActive)
	}
	page := must(s.ListBasins(ctx, &s2.ListBasinsRequest{Prefix: prefix, Limit: some(uint64(2))}))(t)
	equal(t, len(page.Basins), 2)
	equal(t, page.HasMore, true)
	page = must(s.ListBasins(ctx, &s2.ListBasinsRequest{Prefix: prefix, StartAfter: prefix + "-1"}))(t)
	equal(t, len(page.Basins), 1)
	equal(t, page.HasMore, false)

	name := prefix + "-0"
	arrival := &s2.Timestamping{Mode: s2.TimestampingModeClientArrival}
	config := &s2.BasinConfig{
		DefaultStreamConfig:  &s2.StreamConfig{StorageClass: s2.StorageClassStandard, RetentionPolicy: age(77), Timestamping: arrival},
		CreateStreamOnAppend: true,
		CreateStreamOnRead:   true,
	}
	mask := []string{"create_stream_on_append"}
	for _, path := range []string{"retention_policy", "storage_class", "timestamping.mode"} {
		mask = append(mask, "default_stream_config."+path)
	}
	must(s.ReconfigureBasin(ctx, &s2.ReconfigureBasinRequest{Basin: name, Config: config, Mask: mask}))(t)
	config = must(s.GetBasinConfig(ctx, name))(t)
	equal(t, config.CreateStreamOnAppend, true)
	equal(t, config.CreateStreamOnRead, false)
	equal(t, config.DefaultStreamConfig.StorageClass, s2.StorageClassStandard)
	equal[s2.RetentionPolicy](t, config.DefaultStreamConfig.RetentionPolicy, age(77))
	basin := must(s.BasinClient(name))(t)
	must(basin.StreamClient("made/by append").Append(ctx, batch("a")))(t)

	succeeds(t, s.DeleteBasin(ctx, &s2.DeleteBasinRequest{Basin: name}))
	_, err := s.CreateBasin(ctx, &s2.CreateBasinRequest{Basin: name, Config: &s2.BasinConfig{}})
	refused(t, err, codes.FailedPrecondition, "deleted")
	for _, basin := range must(s.ListBasins(ctx, &s2.ListBasinsRequest{Prefix: name}))(t).Basins {
		if basin.State == s2.BasinStateActive {
			t.Fatal("deleted, and listed as if it were not")
		}
	}
}

// The client reads the timestamping of every configuration that it gets, unset or not.
func TestABasinsDefaultShowsItsTimestampingUnset(t *testing.T) {
	ctx, s := start(t), client(t)
	defer func() {
		if fault := recover(); fault != nil {
			t.Fatalf("the client cannot read the configuration: %v", fault)
		}
	}()
	name, _ := newBasin(t, ctx, s, &s2.BasinConfig{
		DefaultStreamConfig: &s2.StreamConfig{RetentionPolicy: age(77), Timestamping: &s2.Timestamping{}},
	})
	shown := must(s.GetBasinConfig(ctx, name))(t).DefaultStreamConfig
	equal[s2.RetentionPolicy](t, shown.RetentionPolicy, age(77))
	equal(t, *shown.Timestamping, s2.Timestamping{})
}

func TestStreamsAreMadeListedConfiguredAndDeleted(t *testing.T) {
	ctx, s := start(t), client(t)
	_, basin := newBasin(t, ctx, s, nil)
	for i := range 7 {
		name := fmt.Sprintf("dir %d/é%d", i/4, i)
		info := must(basin.CreateStream(ctx, &s2.CreateStreamRequest{Stream: name, Config: defaults()}))(t)
		equal(t, info.Name, name)
		if info.DeletedAt != nil || time.Since(info.CreatedAt).Abs() > time.Hour {
			t.Fatalf("created at %v, deleted at %v", info.CreatedAt, info.DeletedAt)
		}
	}
	page := must(basin.ListStreams(ctx, &s2.ListStreamsRequest{Prefix: "dir 0/", Limit: some(uint64(3))}))(t)
	equal(t, len(page.Streams), 3)
	equal(t, page.HasMore, true)
	page = must(basin.ListStreams(ctx, &s2.ListStreamsRequest{StartAfter: page.Streams[2].Name}))(t)
	equal(t, len(page.Streams), 4)

	name := "dir 0/é0"
	config := must(basin.GetStreamConfig(ctx, name))(t)
	equal[s2.RetentionPolicy](t, config.RetentionPolicy, age(604800))
	arrival := &s2.Timestamping{Mode: s2.TimestampingModeClientArrival, Uncapped: some(true)}
	change := &s2.ReconfigureStreamRequest{
		Stream: name,
		Config: &s2.StreamConfig{RetentionPolicy: age(5), Timestamping: arrival},
		Mask:   []string{"retention_policy", "timestamping.mode"},
	}
	config = must(basin.ReconfigureStream(ctx, change))(t)
	equal[s2.RetentionPolicy](t, config.RetentionPolicy, age(5))
	equal(t, config.Timestamping.Mode, s2.TimestampingModeClientArrival)
	config = must(basin.GetStreamConfig(ctx, name))(t)
	equal(t, config.Timestamping.Uncapped != nil && *config.Timestamping.Uncapped, false)

	succeeds(t, basin.DeleteStream(ctx, &s2.DeleteStreamRequest{Stream: name}))
	for _, stream := range must(basin.ListStreams(ctx, &s2.ListStreamsRequest{Prefix: name}))(t).Streams {
		if stream.DeletedAt == nil {
			t.Fatal("deleted, and listed as if it were not")
		}
	}
}

func TestWhatIsMissingOrTakenHasItsStatus(t *testing.T) {
	ctx, s := start(t), client(t)
	name, basin := newBasin(t, ctx, s, nil)
	_, err := s.CreateBasin(ctx, &s2.CreateBasinRequest{Basin: name, Config: &s2.BasinConfig{}})
	refused(t, err, codes.AlreadyExists, name)
	taken := &s2.CreateStreamRequest{Stream: "taken", Config: defaults()}
	must(basin.CreateStream(ctx, taken))(t)
	_, err = basin.CreateStream(ctx, taken)
	refused(t, err, codes.AlreadyExists, "taken")
	_, err = basin.StreamClient("missing").CheckTail(ctx)
	refused(t, err, codes.NotFound, "missing")
	_, err = basin.StreamClient("missing").Append(ctx, batch("a"))
	refused(t, err, codes.NotFound, "missing")
	_, err = basin.StreamClient("missing").Read(ctx, from(0))
	refused(t, err, codes.NotFound, "missing")
	refused(t, basin.DeleteStream(ctx, &s2.DeleteStreamRequest{Stream: "missing"}), codes.NotFound, "missing")
	succeeds(t, basin.DeleteStream(ctx, &s2.DeleteStreamRequest{Stream: "missing", IfExists: true}))

	nowhere := unique("nowhere")
	_, err = s.GetBasinConfig(ctx, nowhere)
	refused(t, err, codes.NotFound, nowhere)
	refused(t, s.DeleteBasin(ctx, &s2.DeleteBasinRequest{Basin: nowhere}), codes.NotFound, nowhere)
	succeeds(t, s.DeleteBasin(ctx, &s2.DeleteBasinRequest{Basin: nowhere, IfExists: true}))
	_, err = must(s.BasinClient(nowhere))(t).ListStreams(ctx, &s2.ListStreamsRequest{})
	refused(t, err, codes.NotFound, nowhere)
	_, err = s.CreateBasin(ctx, &s2.CreateBasinRequest{Basin: "no", Config: &s2.BasinConfig{}})
	refused(t, err, codes.InvalidArgument, "")
}

func TestATokenIsIssuedListedUsedAndRevoked(t *testing.T) {
	ctx, s := start(t), client(t)
	name, basin := newBasin(t, ctx, s, nil)
	id := unique("go")
	expiry := time.Now().Add(time.Hour).Truncate(time.Second)
	secret := must(s.IssueAccessToken(ctx, &s2.AccessTokenInfo{
		ID:                id,
		ExpiresAt:         &expiry,
		AutoPrefixStreams: true,
		Scope: &s2.AccessTokenScope{
			Basins:   s2.ResourceSetExact(name),
			Streams:  s2.ResourceSetPrefix("mine/"),
			OpGroups: &s2.PermittedOperationGroups{Basin: &s2.ReadWritePermissions{Read: true, Write: true}},
			Ops:      []s2.Operation{s2.OperationAppend, s2.OperationRead},
		},
	}))(t)
	listed := must(s.ListAccessTokens(ctx, &s2.ListAccessTokensRequest{Prefix: id}))(t)
	equal(t, len(listed.AccessTokens), 1)
	info := listed.AccessTokens[0]
	equal(t, info.ID, id)
	equal(t, info.ExpiresAt.Unix(), expiry.Unix())
	equal[s2.ResourceSet](t, info.Scope.Basins, s2.ResourceSetExact(name))
	equal(t, *info.Scope.OpGroups.Basin, s2.ReadWritePermissions{Read: true, Write: true})
	equal(t, *info.Scope.OpGroups.Account, s2.ReadWritePermissions{})

	holder := clientWith(t, secret)
	ours := must(holder.BasinClient(name))(t)
	must(ours.CreateStream(ctx, &s2.CreateStreamRequest{Stream: "s", Config: defaults()}))(t)
	must(ours.StreamClient("s").Append(ctx, batch("a")))(t)
	equal(t, bodies(read(t, ctx, basin.StreamClient("mine/s"), from(0))), "a")
	_, err := ours.StreamClient("s").Append(ctx, command(s2.CommandRecordTrim{SeqNum: 1}))
	refused(t, err, codes.PermissionDenied, "")
	_, err = holder.ListBasins(ctx, &s2.ListBasinsRequest{})
	refused(t, err, codes.PermissionDenied, "")

	equal(t, must(s.RevokeAccessToken(ctx, id))(t).ID, id)
	_, err = ours.StreamClient("s").Append(ctx, batch("b"))
	refused(t, err, codes.Unauthenticated, "")
	_, err = s.RevokeAccessToken(ctx, id)
	refused(t, err, codes.NotFound, id)
}
