import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

/** java.net.http.HttpClient. Honours -Dhttp.proxyHost, -Dhttps.proxyHost and -Djavax.net.ssl.trustStore. */
class JavaHttpClient {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (var method : new String[] {"GET", "POST"}) {
            var body = method.equals("GET") ? BodyPublishers.noBody() : BodyPublishers.ofString("{\"n\":1}");
            var request = HttpRequest.newBuilder(URI.create(arguments[0]))
                    .method(method, body)
                    .header("Content-Type", "application/json")
                    .timeout(Duration.ofSeconds(20))
                    .build();
            var answer = client.send(request, BodyHandlers.ofString());
            System.out.printf("%s %d %.200s%n", method, answer.statusCode(), answer.body());
        }
    }
}
