//! The client side of OAuth2 (RFC 6749).
