"""Lambda entry point: initiate. Sessions begin here; the bytes go straight to S3."""

from heavylift.api.http import caller, handler_of, json_response, resolver
from heavylift.api.initiate import initiate_uploads

app = resolver()


@app.post("/v1/uploads")
def post_uploads():
    return json_response(201, initiate_uploads(caller(app), app.current_event.raw_event))


handler = handler_of(app)
