SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  // Requests are not sent from the page.
  supportedSubmitMethods: [],
  // No address outside of this service is asked.
  validatorUrl: null,
});
