// Streams a text, makes an image and sends a request that is refused, all on the generated stubs
// alone. Says what it got as one JSON value a line.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	mediagatev1 "github.com/mediagate/mediagate-go/mediagate/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // lets the channel watch the server's health, as the config asks
	"google.golang.org/grpc/status"
)

// Usage: polyglot host:port service_config.json
func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, configFile string) error {
	config, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(string(config)),
	)
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	text := mediagatev1.NewTextServiceClient(connection)
	images := mediagatev1.NewImageServiceClient(connection)
	if err := streamText(ctx, text); err != nil {
		return err
	}
	if err := makeImage(ctx, images); err != nil {
		return err
	}
	return beRefused(ctx, images)
}

func streamText(ctx context.Context, client mediagatev1.TextServiceClient) error {
	stream, err := client.StreamText(ctx, &mediagatev1.StreamTextRequest{
		Prompt: "Tell me about the sea, at some length.",
	})
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch event := response.Event.(type) {
		case *mediagatev1.StreamTextResponse_Started:
			say("started", "requestId", event.Started.RequestId, "sandbox", event.Started.Sandbox)
		case *mediagatev1.StreamTextResponse_Delta:
			if text, ok := event.Delta.Delta.(*mediagatev1.TextDelta_Text); ok {
				say("delta", "sequence", fmt.Sprint(response.Sequence), "text", text.Text)
			}
		case *mediagatev1.StreamTextResponse_Completed:
			cost := event.Completed.GetCost()
			say(
				"completed",
				"sequence", fmt.Sprint(response.Sequence),
				"costUsdNanos", fmt.Sprint(cost.GetUsdNanos()),
			)
		}
	}
}

func makeImage(ctx context.Context, client mediagatev1.ImageServiceClient) error {
	response, err := client.GenerateImage(ctx, &mediagatev1.GenerateImageRequest{
		Prompt:     "A lighthouse at dusk",
		Dimensions: &mediagatev1.GenerateImageRequest_AspectRatio{AspectRatio: "1:1"},
	})
	if err != nil {
		return err
	}
	generation := response.GetGeneration()
	images := generation.GetImages().GetImages()
	if len(images) == 0 {
		return fmt.Errorf("no image: %v", generation)
	}
	say(
		"image",
		"state", generation.GetState().String(),
		"uri", images[0].GetUri(),
		"mediaType", images[0].GetMediaType(),
		"costUsdNanos", fmt.Sprint(generation.GetCost().GetUsdNanos()),
	)
	return nil
}

func beRefused(ctx context.Context, client mediagatev1.ImageServiceClient) error {
	_, err := client.GenerateImage(ctx, &mediagatev1.GenerateImageRequest{})
	refusal := status.Convert(err)
	for _, detail := range refusal.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			say(
				"refused",
				"code", refusal.Code().String(),
				"reason", info.Reason,
				"domain", info.Domain,
			)
			return nil
		}
	}
	return fmt.Errorf("not refused as it should be: %w", err)
}

func say(event string, facts ...any) {
	line := map[string]any{"event": event}
	for at := 0; at < len(facts); at += 2 {
		line[facts[at].(string)] = facts[at+1]
	}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		panic(err)
	}
}
