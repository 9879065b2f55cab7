import java.net.HttpURLConnection;
import java.net.URI;
import java.nio.charset.StandardCharsets;

/** java.net.HttpURLConnection. Honours -Dhttp.proxyHost, -Dhttps.proxyHost and -Djavax.net.ssl.trustStore. */
class JavaHttpUrlConnection {
    public static void main(String[] arguments) throws Exception {
        for (var method : new String[] {"GET", "POST"}) {
            var connection = (HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
            connection.setRequestMethod(method);
            connection.setRequestProperty("Content-Type", "application/json");
            connection.setConnectTimeout(20_000);
            connection.setReadTimeout(20_000);
            if (method.equals("POST")) {
                connection.setDoOutput(true);
                connection.getOutputStream().write("{\"n\":1}".getBytes(StandardCharsets.UTF_8));
            }
            var status = connection.getResponseCode();
            var stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
            var body = stream == null ? "" : new String(stream.readAllBytes(), StandardCharsets.UTF_8);
            System.out.printf("%s %d %.200s%n", method, status, body);
        }
    }
}
