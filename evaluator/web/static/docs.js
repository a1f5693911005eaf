// The API's page: Swagger UI on this service's own description.
const place = document.getElementById("api");
window.SwaggerUIBundle({ url: place.dataset.openapi, domNode: place, deepLinking: true, filter: true });
