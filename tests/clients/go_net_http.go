// Go's net/http. Honours HTTP_PROXY, HTTPS_PROXY (never for localhost and 127.0.0.0/8) and, but for macOS, SSL_CERT_FILE.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"
)

func main() {
	http.DefaultClient.Timeout = 20 * time.Second
	if runtime.GOOS == "darwin" { // Its keychain is what counts there: a program that wants a file reads it itself.
		pem, _ := os.ReadFile(os.Getenv("SSL_CERT_FILE"))
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		http.DefaultTransport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	for _, method := range []string{"GET", "POST"} {
		var body io.Reader
		if method == "POST" {
			body = strings.NewReader(`{"n":1}`)
		}
		request, err := http.NewRequest(method, os.Args[1], body)
		check(err)
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		check(err)
		text, err := io.ReadAll(answer.Body)
		check(err)
		fmt.Printf("%s %d %.200s\n", method, answer.StatusCode, text)
	}
}

func check(err error) {
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}
