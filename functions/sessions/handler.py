"""Lambda entry point: sessions. Everything that can be read."""

from heavylift.api import archives, batches, health, sessions
from heavylift.api.caller import path_id, query
from heavylift.api.http import caller, handler_of, json_response, resolver

app = resolver()


def _event():
    return app.current_event.raw_event


@app.get("/v1/uploads")
@app.get("/v1/files")
def get_list():
    return json_response(200, sessions.list_files(caller(app), query(_event())))


@app.get("/v1/uploads/<id>")
def get_upload(id: str):
    return json_response(200, sessions.upload(caller(app), path_id(_event()), query(_event())))


@app.get("/v1/uploads/<id>/parts/<n>")
def get_part(id: str, n: str):
    return json_response(200, sessions.part(caller(app), path_id(_event()), n, query(_event())))


@app.get("/v1/files/<id>")
def get_file(id: str):
    return json_response(200, sessions.file(caller(app), path_id(_event()), query(_event())))


@app.get("/v1/files/<id>/events")
def get_events(id: str):
    return json_response(200, sessions.events(caller(app), path_id(_event())))


@app.get("/v1/files/<id>/content")
def get_content(id: str):
    return json_response(*sessions.content(caller(app), path_id(_event()), query(_event())))


@app.get("/v1/files/<id>/report")
def get_report(id: str):
    return json_response(*sessions.report(caller(app), path_id(_event()), query(_event())))


@app.get("/v1/files/<id>/thumbnails/<size>")
def get_thumbnail(id: str, size: str):
    return json_response(*sessions.thumbnail(caller(app), path_id(_event()), size, query(_event())))


@app.get("/v1/batches/<id>")
def get_batch(id: str):
    return json_response(200, batches.status(caller(app), batches.batch_id_of(_event()), query(_event())))


@app.get("/v1/batches/<id>/files")
def get_batch_files(id: str):
    return json_response(200, batches.files(caller(app), batches.batch_id_of(_event()), query(_event())))


@app.get("/v1/batches/<id>/studies")
def get_batch_studies(id: str):
    return json_response(200, batches.studies(caller(app), batches.batch_id_of(_event()), query(_event())))


@app.get("/v1/archives/<id>")
def get_archive(id: str):
    return json_response(200, archives.status(caller(app), archives.archive_id_of(_event())))


@app.get("/v1/archives/<id>/content")
def get_archive_content(id: str):
    return json_response(*archives.content(caller(app), archives.archive_id_of(_event()), query(_event())))


@app.get("/v1/archives/<id>/members")
def get_archive_members(id: str):
    return json_response(200, archives.members(caller(app), archives.archive_id_of(_event()), query(_event())))


@app.get("/v1/archives/<id>/members/<n>/content")
def get_archive_member(id: str, n: str):
    return json_response(200, archives.member_content(caller(app), archives.archive_id_of(_event()), n))


@app.get("/v1/stats")
def get_stats():
    return json_response(200, sessions.stats(caller(app)))


@app.get("/v1/health")
def get_health():
    return json_response(*health.health())


handler = handler_of(app)
