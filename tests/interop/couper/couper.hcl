# The resource server and the authorization server of Couper's walk-through for the client credentials grant, with the
# walk-through's ports, which a test replaces by free ones.
server "resource-server" {
  hosts = ["localhost:8081"]
  api {
    access_control = ["token"]
    endpoint "/resource" {
      response {
        json_body = {"foo" = 1}
      }
    }
  }
}

server "authorization-server" {
  hosts = ["localhost:8082"]
  endpoint "/token" {
    response {
      json_body = {
        "access_token" = jwt_sign("token", {  })
        "expires_in" = 10
      }
    }
  }
  # Not of the walk-through: endpoints that look at the client's credentials.
  endpoint "/basic" {
    access_control = ["client"]
    response {
      json_body = {
        "access_token" = jwt_sign("token", {  })
        "expires_in" = 10
      }
    }
  }
  endpoint "/post" {
    response {
      status = request.form_body.client_secret[0] == "my-client-secret" ? 200 : 401
      json_body = request.form_body.client_secret[0] == "my-client-secret" ? {
        "access_token" = jwt_sign("token", {  })
        "expires_in" = 10
      } : {
        "error" = "invalid_client"
      }
    }
  }
}

definitions {
  jwt_signing_profile "token" {
    signature_algorithm = "HS256"
    key = "$eCr3T"
    ttl = "10s"
  }
  jwt "token" {
    signature_algorithm = "HS256"
    key = "$eCr3T"
    header = "Authorization"
  }
  basic_auth "client" {
    user = "my-client"
    password = "my-client-secret"
  }
}
