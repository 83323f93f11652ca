"""Lambda entry point: complete. An upload is joined, cancelled or tried again; a file is deleted."""

from heavylift.api import archives, batches, complete
from heavylift.api.caller import path_id, query
from heavylift.api.companion import end, serving
from heavylift.api.http import caller, handler_of, json_response, resolver, seconds_left

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


@app.delete("/v1/files/<id>")
def delete_file(id: str):
    return json_response(200, complete.delete_file(caller(app), path_id(app.current_event.raw_event)))


@app.delete("/v1/uploads")
def delete_uploads():
    return json_response(200, complete.clean_up(caller(app), query(app.current_event.raw_event), seconds_left(app)))


@app.post("/v1/batches/<id>/complete")
def post_batch_complete(id: str):
    event = app.current_event.raw_event
    return json_response(200, batches.complete(caller(app), batches.batch_id_of(event), event, seconds_left(app)))


@app.delete("/v1/batches/<id>")
def delete_batch(id: str):
    event = app.current_event.raw_event
    return json_response(200, batches.cancel(caller(app), batches.batch_id_of(event), seconds_left(app)))


@app.delete("/v1/archives/<id>")
def delete_archive(id: str):
    return json_response(200, archives.cancel(caller(app), archives.archive_id_of(app.current_event.raw_event)))


BY_TICKET = end.ROUTES
handler = serving.beside(handler_of(app), BY_TICKET)
