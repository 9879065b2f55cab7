// An authorization server of ory/fosite on a free port of 127.0.0.1: that of fosite's own how-to (a token endpoint, JWTs
// as access tokens, `test-client` with the secret `foobar`), with more grants, and with the clients that a file of JSON
// names (its one argument). Prints "ready " and what a client has to know as JSON; ends at the end of its input.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"github.com/ory/fosite/compose"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/storage"
	"golang.org/x/crypto/bcrypt"
)

// What the test hands over. The names of a client's metadata are those of RFC 7591.
type registrations struct {
	Clients []struct {
		ClientID     string              `json:"client_id"`
		ClientSecret string              `json:"client_secret"`
		Method       string              `json:"token_endpoint_auth_method"`
		Algorithm    string              `json:"token_endpoint_auth_signing_alg"`
		GrantTypes   []string            `json:"grant_types"`
		Scope        string              `json:"scope"`
		Keys         *jose.JSONWebKeySet `json:"jwks"`
	} `json:"clients"`
	User struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"user"`
	// Whose JWTs are assertions of RFC 7523, section 2.1, and about whom.
	Issuers []struct {
		Issuer  string             `json:"issuer"`
		Subject string             `json:"subject"`
		Keys    jose.JSONWebKeySet `json:"jwks"`
	} `json:"issuers"`
}

func main() {
	content, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var given registrations
	if err := json.Unmarshal(content, &given); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	issuer := "http://" + listener.Addr().String()

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		log.Fatal(err)
	}
	config := &fosite.Config{
		AccessTokenLifespan: 30 * time.Minute,
		AccessTokenIssuer:   issuer,
		TokenURL:            issuer + "/token",
		GlobalSecret:        []byte("32 bytes, for the refresh tokens"),
		// An assertion may come without a client's authentication: it says itself who asks.
		GrantTypeJWTBearerCanSkipClientAuth: true,
	}
	signing := func(context.Context) (interface{}, error) { return key, nil }
	memory, strategy := store(given), compose.NewOAuth2JWTStrategy(signing, compose.NewOAuth2HMACStrategy(config), config)
	provider := compose.Compose(
		config,
		memory,
		strategy,
		compose.OAuth2ClientCredentialsGrantFactory,
		compose.OAuth2RefreshTokenGrantFactory,
		compose.OAuth2ResourceOwnerPasswordCredentialsFactory,
		compose.RFC7523AssertionGrantFactory,
		compose.OAuth2TokenIntrospectionFactory,
	)

	handler := tokenHandler{oauth: provider}
	http.HandleFunc("/token", handler.TokenHandler)
	http.HandleFunc("/introspect", handler.IntrospectionHandler)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	ready, err := json.Marshal(map[string]any{
		"issuer": issuer, "token_endpoint": config.TokenURL, "introspection_endpoint": issuer + "/introspect",
		"refresh_tokens": firstRefreshTokens(given, memory, strategy),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready " + string(ready))
	log.Fatal(http.Serve(listener, nil))
}

// Everything that was handed over, in memory.
func store(given registrations) *storage.MemoryStore {
	memory := storage.NewMemoryStore()
	memory.Clients["test-client"] = &fosite.DefaultClient{
		ID: "test-client", Secret: hashed("foobar"), GrantTypes: []string{"client_credentials"},
	}
	for _, client := range given.Clients {
		memory.Clients[client.ClientID] = &fosite.DefaultOpenIDConnectClient{
			DefaultClient: &fosite.DefaultClient{
				ID:         client.ClientID,
				Secret:     hashed(client.ClientSecret),
				GrantTypes: client.GrantTypes,
				Scopes:     strings.Fields(client.Scope),
				Public:     client.Method == "none",
			},
			TokenEndpointAuthMethod:           client.Method,
			TokenEndpointAuthSigningAlgorithm: client.Algorithm,
			JSONWebKeys:                       client.Keys,
		}
	}
	memory.Users[given.User.Username] = storage.MemoryUserRelation{
		Username: given.User.Username, Password: given.User.Password,
	}
	for _, issuer := range given.Issuers {
		keys := map[string]storage.PublicKeyScopes{}
		for _, key := range issuer.Keys.Keys {
			keys[key.KeyID] = storage.PublicKeyScopes{Key: &key, Scopes: []string{"read"}}
		}
		subject := storage.SubjectPublicKeys{Subject: issuer.Subject, Keys: keys}
		memory.IssuerPublicKeys[issuer.Issuer] = storage.IssuerPublicKeys{
			Issuer: issuer.Issuer, KeysBySub: map[string]storage.SubjectPublicKeys{issuer.Subject: subject},
		}
	}
	return memory
}

// What a browser would have brought each client of the refresh token grant.
func firstRefreshTokens(given registrations, memory *storage.MemoryStore, strategy oauth2.CoreStrategy) map[string]string {
	told := map[string]string{}
	for _, client := range given.Clients {
		if !slices.Contains(client.GrantTypes, "refresh_token") {
			continue
		}
		session := session()
		session.SetSubject(given.User.Username)
		session.SetExpiresAt(fosite.RefreshToken, time.Now().Add(time.Hour))
		request := fosite.NewRequest()
		request.Client, request.Session = memory.Clients[client.ClientID], session
		for _, scope := range strings.Fields(client.Scope) {
			request.RequestedScope = append(request.RequestedScope, scope)
			request.GrantScope(scope)
		}
		token, signature, err := strategy.GenerateRefreshToken(context.Background(), request)
		if err != nil {
			log.Fatal(err)
		}
		if err := memory.CreateRefreshTokenSession(context.Background(), signature, "", request); err != nil {
			log.Fatal(err)
		}
		told[client.ClientID] = token
	}
	return told
}

func hashed(secret string) []byte {
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		log.Fatal(err)
	}
	return hash
}
