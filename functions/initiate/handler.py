"""Lambda entry point: initiate. Sessions begin here; the bytes go straight to S3."""

from heavylift.api import archives, batches
from heavylift.api.caller import facility_of
from heavylift.api.companion import begin, serving
from heavylift.api.http import caller, handler_of, json_response, resolver
from heavylift.api.initiate import initiate_uploads
from heavylift.settings import settings

app = resolver()


@app.post("/v1/uploads")
def post_uploads():
    return json_response(201, initiate_uploads(caller(app), app.current_event.raw_event))


@app.post("/v1/batches")
def post_batches():
    event = app.current_event.raw_event
    return json_response(201, batches.begin(caller(app), event, facility_of(event, settings().facility_claim)))


@app.put("/v1/batches/<id>/manifest/<page>")
def put_manifest(id: str, page: str):
    event = app.current_event.raw_event
    return json_response(200, batches.put_page(caller(app), batches.batch_id_of(event), page, event))


@app.post("/v1/archives")
def post_archives():
    return json_response(202, archives.begin(caller(app), app.current_event.raw_event))


@app.post("/v1/companion-tickets")
def post_ticket():
    return json_response(201, begin.ticket(caller(app), app.current_event.raw_event))


BY_TICKET = begin.ROUTES
handler = serving.beside(handler_of(app), BY_TICKET)
