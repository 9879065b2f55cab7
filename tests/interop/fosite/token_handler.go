package main

import (
	"log"
	"net/http"

	"github.com/ory/fosite"
	"github.com/ory/fosite/handler/oauth2"
	"github.com/ory/fosite/token/jwt"
)

// The two endpoints of the server; every answer, an error too, is fosite's own.
type tokenHandler struct {
	oauth fosite.OAuth2Provider
}

// A session whose access tokens are JWTs, which have to have claims to be signed.
func session() *oauth2.JWTSession {
	return &oauth2.JWTSession{JWTClaims: &jwt.JWTClaims{}, JWTHeader: &jwt.Headers{}}
}

// TokenHandler is the token endpoint.
func (t *tokenHandler) TokenHandler(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	request, err := t.oauth.NewAccessRequest(ctx, r, session())
	if err != nil {
		told := fosite.ErrorToRFC6749Error(err)
		log.Printf("refused: %v %s %s", told.ErrorField, told.HintField, told.DebugField)
		t.oauth.WriteAccessError(ctx, w, request, err)
		return
	}
	// With the grant of client credentials the client itself has what it asks for; the other grants decide by themselves.
	if request.GetGrantTypes().ExactOne("client_credentials") || request.GetGrantTypes().ExactOne("password") {
		for _, scope := range request.GetRequestedScopes() {
			request.GrantScope(scope)
		}
	}
	response, err := t.oauth.NewAccessResponse(ctx, request)
	if err != nil {
		t.oauth.WriteAccessError(ctx, w, request, err)
		return
	}
	t.oauth.WriteAccessResponse(ctx, w, request, response)
}

// IntrospectionHandler is the introspection endpoint (RFC 7662).
func (t *tokenHandler) IntrospectionHandler(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	response, err := t.oauth.NewIntrospectionRequest(ctx, r, session())
	if err != nil {
		t.oauth.WriteIntrospectionError(ctx, w, err)
		return
	}
	t.oauth.WriteIntrospectionResponse(ctx, w, response)
}
