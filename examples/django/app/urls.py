"""One page that counts its visits in a session, and one for the health check."""

from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.urls import path


def database_user():
    with connection.cursor() as cursor:
        cursor.execute("SELECT session_user")
        return cursor.fetchone()[0]


def visit(request):
    visits = request.session.get("visits", 0) + 1
    request.session["visits"] = visits
    return JsonResponse({"visits": visits, "database_user": database_user()})


def health(request):
    database_user()
    return HttpResponse("ok\n")


urlpatterns = [path("", visit), path("healthz", health)]
