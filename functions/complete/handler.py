"""Lambda entry point: complete. An upload is joined, cancelled or tried again."""

from heavylift.api import complete
from heavylift.api.caller import path_id
from heavylift.api.http import caller, handler_of, json_response, resolver

app = resolver()


@app.post("/v1/uploads/<id>/complete")
def post_complete(id: str):
    event = app.current_event.raw_event
    return json_response(*complete.complete_upload(caller(app), path_id(event), event))


@app.post("/v1/uploads/<id>/retry")
def post_retry(id: str):
    event = app.current_event.raw_event
    return json_response(202, complete.retry_upload(caller(app), path_id(event), event))


@app.delete("/v1/uploads/<id>")
def delete_upload(id: str):
    return json_response(200, complete.cancel_upload(caller(app), path_id(app.current_event.raw_event)))


handler = handler_of(app)
