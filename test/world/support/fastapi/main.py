# As the tutorials write it: nothing of it knows that a proxy is in front.
from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.get("/items/")
def items(request: Request):
    return {
        "url": str(request.url_for("items")),
        "prefix": request.headers.get("x-forwarded-prefix"),
        "scheme": request.url.scheme,
    }


@app.post("/items/", status_code=201)
def create(request: Request, response: Response):
    response.headers["location"] = str(request.url_for("item", number=7))
    return {}


@app.get("/items/{number}")
def item(number: int):
    return {"number": number}
